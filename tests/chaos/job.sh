# truth-folder queue key ticks pause lines-a-tick: notes what it sees in its queue's file, and prints numbered lines.
truth="$1/$2" key=$3 ticks=$4 pause=$5 each=$6 tick=0 line=0
read -r process </proc/sys/kernel/random/uuid
exec 9>>"$truth.lock"
say() { echo "$key $1 $process" >>"$truth.log"; }
if command -v flock >/dev/null 2>&1; then flock -n 9 || say overlap; fi
say begin
while [ "$tick" -lt "$ticks" ]; do
  tick=$((tick + 1)) upto=$((line + each))
  while [ "$line" -lt "$upto" ]; do
    line=$((line + 1))
    if [ $((line % 5)) -eq 0 ]; then echo "$key $line" >&2; else echo "$key $line"; fi
  done
  sleep "$pause"
  say tick
done
say end
