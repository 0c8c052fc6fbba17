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

type result struct {
	Type, Status, Reason, Error string // of a job's end
	ReturnCode                  int    `json:"return_code"`
	Chunks                      int
	OutputDigest                string `json:"output_digest"`

	Data struct{ Ciphertext string } // of Vault's answers
	Wrap struct{ Token string }      `json:"wrap_info"`
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func sha256Hex(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func vault(path, wrapTTL string, body object) (found result) {
	address, sent := os.Getenv("VAULT_ADDR")+"/v1/"+path, bytes.NewReader(must(json.Marshal(body)))
	request := must(http.NewRequest("POST", address, sent))
	request.Header = http.Header{"X-Vault-Token": {os.Getenv("VAULT_TOKEN")}, "X-Vault-Wrap-Ttl": {wrapTTL}}
	answer := must(http.DefaultClient.Do(request))
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		log.Fatalf("Vault refuses %s: HTTP %d.", path, answer.StatusCode)
	}
	must(0, json.NewDecoder(answer.Body).Decode(&found))
	return found
}

func encrypt(key, boundTo string, value object) string {
	body := object{"plaintext": must(json.Marshal(value)), "associated_data": []byte(boundTo)}
	return vault("transit/encrypt/"+key, "", body).Data.Ciphertext
}

// store repeats what NATS has dropped because too many messages wait (10167); nothing of it was stored.
func store(js nats.JetStreamContext, subject string, data []byte) {
	for end := time.Now().Add(8 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var refused *nats.APIError
		_, err := js.Publish(subject, data, nats.AckWait(10*time.Second))
		if !errors.As(err, &refused) || refused.ErrorCode != 10167 || time.Now().After(end) {
			must(0, err)
			return
		}
	}
}

// ended asks the log for one of the events that a job has at its end. What is heard only says when to look again.
func ended(js nats.JetStreamContext, job string, heard *nats.Subscription) (found result) {
	for ; ; heard.NextMsg(2 * time.Second) {
		for _, kind := range []string{"ended", "rejected", "deleted"} {
			event, err := js.GetLastMsg("EVENTS", "ev."+job+"."+kind, nats.DirectGet())
			if !errors.Is(err, nats.ErrMsgNotFound) {
				must(0, json.Unmarshal(must(event, err).Data, &found))
				return found
			}
		}
	}
}

// verified reads the output, and returns it if its digest is the one that the job's runner recorded.
func verified(nc *nats.Conn, subject string, found result) (output []*nats.Msg) {
	digest, sequence := "", "0"
	for tries := 3; len(output) < found.Chunks; {
		chunk, err := nc.Request(subject+sequence, nil, 10*time.Second)
		if err == nil && chunk.Header.Get("Stint-Chunk") == fmt.Sprint(len(output)+1) {
			output, sequence = append(output, chunk), chunk.Header.Get("Nats-Sequence")
			digest = sha256Hex(digest + string(chunk.Data))
		} else if tries--; tries == 0 {
			log.Fatalf("Chunk %d of the output cannot be read.", len(output)+1)
		} else {
			time.Sleep(time.Second)
		}
	}
	if digest != found.OutputDigest {
		log.Fatal("The output is not what the job's runner recorded.")
	}
	return output
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("Usage: publish QUEUE IMAGE [COMMAND...]")
	}
	qname, role := os.Args[1], cmp.Or(os.Getenv("STINT_ROLE"), "stint-job")
	token := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(strings.ToLower(qname)))
	queue := cmp.Or(strings.ToLower(token), "_")
	id := fmt.Sprintf("%012x%.12s", time.Now().UnixMilli(), sha256Hex(rand.Text()))
	key := must(nats.NkeyOptionFromSeed(os.Getenv("STINT_NATS_NKEY_FILE")))
	options := []nats.Option{key, nats.CustomInboxPrefix(os.Getenv("STINT_NATS_INBOX_PREFIX")), nats.NoReconnect()}
	nc, err := nats.Connect(os.Getenv("NATS_URL"), options...)
	if err != nil { // NATS waits 1.9 s for a login, which a busy machine can miss, and nothing has been sent yet
		nc = must(nats.Connect(os.Getenv("NATS_URL"), options...))
	}
	js := must(nc.JetStream(nats.APIPrefix("JS.stint")))
	heard := must(nc.SubscribeSync("live." + id + "." + queue + ".ended"))
	payload := encrypt(role, "", object{"qname": qname, "container_image": os.Args[2], "run": os.Args[3:]})
	wrapped := vault("auth/approle/role/"+role+"/secret-id", "24h", object{}).Wrap.Token
	ticket := object{"wrap_secret_id": wrapped, "payload_sha256": sha256Hex(payload)}
	submitted := object{
		"type": "submitted", "event_id": rand.Text(), "at": time.Now().UTC(), "by": "publish.go", "qname": qname,
		"ticket": encrypt("stint-bus", "stint1."+queue+"."+id, ticket), "payload_bytes": len(payload),
	}
	chunks := slices.Collect(slices.Chunk([]byte(payload), 512*1024))
	for number, chunk := range chunks {
		store(js, fmt.Sprintf("pl.%s.%s.%d", queue, id, number), chunk)
	}
	submitted["payload_chunks"] = len(chunks)
	log.Print("submitting ", id) // from here on the job may exist, even if no answer arrives
	store(js, "ev."+id+"."+queue+".submitted", must(json.Marshal(submitted)))
	found := ended(js, id+"."+queue, heard)
	for _, chunk := range verified(nc, "output."+queue+"."+id+".", found) {
		file := map[bool]*os.File{true: os.Stderr, false: os.Stdout}[chunk.Header.Get("Stint-Stream") == "stderr"]
		must(file.Write(chunk.Data))
	}
	log.Print(cmp.Or(found.Status, found.Type), " ", found.Reason, " ", found.Error)
	if found.Status != "success" {
		os.Exit(cmp.Or(found.ReturnCode, 1))
	}
}
