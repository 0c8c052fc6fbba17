package main

import (
	"encoding/json"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

type end struct { // of a job: `ended`, or `rejected` or `deleted` without most of this
	Type, Status, Reason, Error string

	Code   int    `json:"return_code"`
	Chunks int    `json:"chunks"`
	Digest string `json:"output_digest"`
}

// ended asks the log: what is heard only says when to look again.
func ended(nc *nats.Conn, kinds []string, id, queue string, told <-chan *nats.Msg) (found end) {
	for {
		for _, kind := range kinds {
			answer := must(nc.Request("JS.stint.DIRECT.GET.EVENTS.ev."+id+"."+queue+"."+kind, nil, 10*time.Second))
			if answer.Header.Get("Status") != "404" {
				must(0, json.Unmarshal(answer.Data, &found))
				return found
			}
		}
		select {
		case <-told:
		case <-time.After(2 * time.Second):
		}
	}
}

// next returns the chunk with this number, as it was heard; what was missed is read again, behind this sequence.
func next(nc *nats.Conn, tail *nats.Subscription, output, sequence string, number int) *nats.Msg {
	for range 3 {
		for pending, _, _ := tail.Pending(); pending > 0; pending-- {
			if heard, err := tail.NextMsg(time.Second); err == nil && heard.Header.Get("Stint-Chunk") == fmt.Sprint(number) {
				return heard
			}
		}
		answer, err := nc.Request(output+"."+sequence, nil, 5*time.Second)
		if err == nil && answer.Header.Get("Stint-Chunk") == fmt.Sprint(number) {
			return answer
		}
		time.Sleep(time.Second)
	}
	log.Fatalf("Chunk %d of the output cannot be read.", number)
	return nil
}

// verified returns the chunks once their digest is the one that the job's runner recorded.
func verified(nc *nats.Conn, found end, tail *nats.Subscription) (output []*nats.Msg) {
	digest, sequence := "", "0"
	for len(output) < found.Chunks {
		chunk := next(nc, tail, strings.Replace(tail.Subject, "tail", "output", 1), sequence, len(output)+1)
		digest, sequence = sha([]byte(digest), chunk.Data), chunk.Header.Get("Nats-Sequence")
		output = append(output, chunk)
	}
	if digest != found.Digest {
		log.Fatal("The output is not what the job's runner recorded.")
	}
	return output
}
