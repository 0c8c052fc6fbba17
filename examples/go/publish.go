// Submits a job straight to NATS, waits for its end, and writes its output once that is proven to be complete.
//
//	publish QUEUE IMAGE [COMMAND...]
//
// Needs NATS_URL, STINT_NATS_NKEY_FILE and STINT_NATS_INBOX_PREFIX of a publisher, VAULT_ADDR, and VAULT_TOKEN with the
// policy `stint-publisher`. Certificates of your own are named by SSL_CERT_FILE. Exits as the job does: with its exit
// code, or 1 if it has none. Does not reconnect: nothing is sent late.
package main

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

type object = map[string]any

func check(good bool, problem ...any) {
	if !good {
		log.Fatal(problem...)
	}
}

func must[T any](value T, err error) T {
	check(err == nil, err)
	return value
}

func sha256Hex(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func vault(path, wrapTTL string, body object) (answer object) {
	sent := bytes.NewReader(must(json.Marshal(body)))
	request := must(http.NewRequest("POST", os.Getenv("VAULT_ADDR")+"/v1/"+path, sent))
	request.Header = http.Header{"X-Vault-Token": {os.Getenv("VAULT_TOKEN")}, "X-Vault-Wrap-Ttl": {wrapTTL}}
	response := must(http.DefaultClient.Do(request))
	defer response.Body.Close()
	check(response.StatusCode == http.StatusOK, "Vault refuses ", path, ": HTTP ", response.Status)
	must(0, json.NewDecoder(response.Body).Decode(&answer))
	return answer
}

func encrypt(key, boundTo string, value object) string {
	body := object{"plaintext": must(json.Marshal(value)), "associated_data": []byte(boundTo)}
	return vault("transit/encrypt/"+key, "", body)["data"].(object)["ciphertext"].(string)
}

// store repeats what NATS has dropped because too many messages wait (10167); nothing of it was stored.
func store(js nats.JetStreamContext, subject string, data []byte) {
	_, err := js.Publish(subject, data)
	for tries := 400; tries > 0 && errors.Is(err, &nats.APIError{ErrorCode: 10167}); tries-- {
		time.Sleep(20 * time.Millisecond)
		_, err = js.Publish(subject, data)
	}
	must(0, err)
}

// ended asks the log for one of the events that a job has at its end. What is heard only says when to look again.
func ended(nc *nats.Conn, js nats.JetStreamContext, job string) []byte {
	heard := must(nc.SubscribeSync("live." + job + ".ended"))
	for ; ; heard.NextMsg(2 * time.Second) {
		for _, kind := range []string{"ended", "rejected", "deleted"} {
			event, err := js.GetLastMsg("EVENTS", "ev."+job+"."+kind, nats.DirectGet())
			if !errors.Is(err, nats.ErrMsgNotFound) {
				return must(event, err).Data
			}
		}
	}
}

// verified reads the output until its digest is the one that the job's runner recorded.
func verified(nc *nats.Conn, subject, recorded string) (output []*nats.Msg) {
	digest, sequence := "", "0"
	for asked := 0; digest != recorded; asked++ {
		check(asked < len(output)+3, "The output is not as recorded: chunk ", len(output)+1, " cannot be read.")
		chunk, err := nc.Request(subject+sequence, nil, 10*time.Second)
		if err == nil && chunk.Header.Get("Stint-Chunk") == fmt.Sprint(len(output)+1) {
			output, sequence = append(output, chunk), chunk.Header.Get("Nats-Sequence")
			digest = sha256Hex(digest + string(chunk.Data))
		} else {
			time.Sleep(time.Second)
		}
	}
	return output
}

func main() {
	check(len(os.Args) > 2, "Usage: publish QUEUE IMAGE [COMMAND...]")
	qname, role := strings.ToLower(os.Args[1]), cmp.Or(os.Getenv("STINT_ROLE"), "stint-job")
	base := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	queue := cmp.Or(base.EncodeToString([]byte(qname)), "_")
	id := fmt.Sprintf("%012x%.12s", time.Now().UnixMilli(), sha256Hex(rand.Text()))

	key := must(nats.NkeyOptionFromSeed(os.Getenv("STINT_NATS_NKEY_FILE")))
	inbox := nats.CustomInboxPrefix(os.Getenv("STINT_NATS_INBOX_PREFIX"))
	// A server named twice is tried again: NATS waits 1.9 s for a login, which a busy machine can miss.
	nc := must(nats.Connect(strings.Repeat(os.Getenv("NATS_URL")+",", 2), key, inbox, nats.NoReconnect()))
	js := must(nc.JetStream(nats.APIPrefix("JS.stint"), nats.MaxWait(10*time.Second)))

	payload := encrypt(role, "", object{"qname": qname, "container_image": os.Args[2], "run": os.Args[3:]})
	chunks := slices.Collect(slices.Chunk([]byte(payload), 512*1024))
	for number, chunk := range chunks {
		store(js, fmt.Sprintf("pl.%s.%s.%d", queue, id, number), chunk)
	}
	wrapped := vault("auth/approle/role/"+role+"/secret-id", "24h", object{})["wrap_info"].(object)["token"]
	ticket := object{"wrap_secret_id": wrapped, "payload_sha256": sha256Hex(payload)}
	submitted := must(json.Marshal(object{
		"type": "submitted", "event_id": rand.Text(), "at": time.Now().UTC(), "by": "publish.go", "qname": qname,
		"payload_chunks": len(chunks), "payload_bytes": len(payload),
		"ticket": encrypt("stint-bus", "stint1."+queue+"."+id, ticket),
	}))
	log.Print("submitting ", id) // from here on the job may exist, even if no answer arrives
	store(js, "ev."+id+"."+queue+".submitted", submitted)

	var end struct {
		Type, Status, Reason, Error string
		ReturnCode                  int    `json:"return_code"`
		OutputDigest                string `json:"output_digest"`
	}
	must(0, json.Unmarshal(ended(nc, js, id+"."+queue), &end))
	for _, chunk := range verified(nc, "output."+queue+"."+id+".", end.OutputDigest) {
		file := map[bool]*os.File{true: os.Stderr, false: os.Stdout}[chunk.Header.Get("Stint-Stream") == "stderr"]
		must(file.Write(chunk.Data))
	}
	log.Print(cmp.Or(end.Status, end.Type), " ", end.Reason, " ", end.Error)
	if end.Status != "success" {
		os.Exit(cmp.Or(end.ReturnCode, 1))
	}
}
