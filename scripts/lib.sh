# Sourced by the other scripts: what they share.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'setup: %s\n' "$*"; }

die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

# Runs a command as root; fails if that would need a password.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Whether packages can be installed here: Debian or a relative, with root or passwordless sudo.
can_install() {
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

# Waits for its turn: other set-ups by a lock of ours, other users of apt by apt's own.
apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive flock --close /var/lib/dpkg \
    apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" </dev/null >/dev/null 9<&-
}

# Whether this release has the package.
apt_has() { apt-cache show "$1" >/dev/null 2>&1; }

# Installs Debian packages, saying so. Those that this release does not have are left out if their name ends in `?`.
apt_install() {
  local wanted=() package
  say "installing ${*%\?} (apt-get)"
  apt_get update
  for package in "$@"; do
    if [ "$package" = "${package%\?}" ] || apt_has "${package%\?}"; then
      wanted+=("${package%\?}")
    fi
  done
  apt_get install --no-install-recommends --yes "${wanted[@]}"
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# Fails where no registry can be reached. Says nothing.
pull() { timeout 600 docker pull "$1" >/dev/null 2>&1; }

# One set-up at a time in this folder, where the system has flock. The children that stay must close 9.
one_at_a_time() {
  if command -v flock >/dev/null; then
    exec 9<.
    flock 9
  fi
}
