// Submits a job straight to NATS, waits for its end, and writes its output once that is proven to be complete.
//
//	publish QUEUE IMAGE [COMMAND...]
//
// Needs NATS_URL, STINT_NATS_NKEY_FILE and STINT_NATS_INBOX_PREFIX of a publisher, VAULT_ADDR, and VAULT_TOKEN with the
// policy `stint-publisher`. Certificates of your own are named by STINT_NATS_CACERT, and by SSL_CERT_FILE for Vault.
// Exits as the job does: with its exit code, or 1 if it has none.
package main

import (
	"cmp"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const tooManyRequests = 10167 // nats.go has no name for it

// store repeats what NATS has dropped because too many messages wait; nothing of it was stored.
func store(nc *nats.Conn, message *nats.Msg) {
	for end := time.Now().Add(8 * time.Second); ; time.Sleep(time.Duration(5+rand.IntN(25)) * time.Millisecond) {
		var answer struct{ Error *nats.APIError }
		must(0, json.Unmarshal(must(nc.RequestMsg(message, 10*time.Second)).Data, &answer))
		if answer.Error == nil {
			return
		}
		if answer.Error.ErrorCode != tooManyRequests || time.Now().After(end) {
			log.Fatalf("NATS does not store %s: %s.", message.Subject, answer.Error.Description)
		}
	}
}

func submit(nc *nats.Conn, id, qname, queue string, job object) {
	payload, ticket := seal(id, queue, job)
	chunks := 0
	for rest := []byte(payload); len(rest) > 0; chunks++ {
		size := min(len(rest), 512*1024)
		store(nc, &nats.Msg{Subject: fmt.Sprintf("pl.%s.%s.%d", queue, id, chunks), Data: rest[:size]})
		rest = rest[size:]
	}
	log.Print("submitting ", id) // from here on the job may exist, even if no answer arrives
	store(nc, signed("ev."+id+"."+queue+".submitted", toJSON(object{
		"type": "submitted", "event_id": random(16), "at": time.Now().UTC(), "by": "publish.go", "ticket": ticket,
		"qname": qname, "payload_chunks": chunks, "payload_bytes": len(payload),
	})))
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("Usage: publish QUEUE IMAGE [COMMAND...]")
	}
	qname, job := os.Args[1], object{"qname": os.Args[1], "container_image": os.Args[2], "run": os.Args[3:]}
	queue := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(strings.ToLower(qname)))
	queue = cmp.Or(strings.ToLower(queue), "_")
	id := fmt.Sprintf("%012x%s", time.Now().UnixMilli(), random(6))
	key := must(nats.NkeyOptionFromSeed(os.Getenv("STINT_NATS_NKEY_FILE")))
	options := []nats.Option{key, nats.CustomInboxPrefix(os.Getenv("STINT_NATS_INBOX_PREFIX")), nats.NoReconnect()}
	if file := os.Getenv("STINT_NATS_CACERT"); file != "" {
		options = append(options, nats.RootCAs(file))
	}
	nc, err := nats.Connect(os.Getenv("NATS_URL"), options...) // what was not sent must not go later: no reconnect
	if err != nil {                                            // NATS waits 1.9 s for a login, which a busy machine can miss, and nothing has been sent yet
		nc = must(nats.Connect(os.Getenv("NATS_URL"), options...))
	}
	kinds, told := []string{"ended", "rejected", "deleted"}, make(chan *nats.Msg, 3)
	tail := must(nc.SubscribeSync("tail." + queue + "." + id))
	for _, kind := range kinds {
		must(nc.ChanSubscribe("live."+id+"."+queue+"."+kind, told))
	}
	submit(nc, id, qname, queue, job)
	found := ended(nc, kinds, id, queue, told)
	for _, chunk := range verified(nc, found, tail) {
		file := map[bool]*os.File{true: os.Stderr, false: os.Stdout}[chunk.Header.Get("Stint-Stream") == "stderr"]
		must(file.Write(chunk.Data))
	}
	log.Print(cmp.Or(found.Status, found.Type), " ", found.Reason, " ", found.Error)
	if found.Status != "success" {
		os.Exit(cmp.Or(found.Code, 1))
	}
}
