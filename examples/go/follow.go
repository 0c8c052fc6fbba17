package main

import (
	"encoding/json"
	"fmt"
	"log"
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

// verified returns the chunks once their digest is the one that the job's runner recorded.
func verified(found end, tail *nats.Subscription) (output []*nats.Msg) {
	digest := ""
	for len(output) < found.Chunks {
		chunk, err := tail.NextMsg(5 * time.Second)
		if err != nil || chunk.Header.Get("Stint-Chunk") != fmt.Sprint(len(output)+1) {
			log.Fatalf("Chunk %d of the output was not heard: ask the API for it.", len(output)+1)
		}
		digest = sha([]byte(digest), chunk.Data)
		output = append(output, chunk)
	}
	if digest != found.Digest {
		log.Fatal("The output is not what the job's runner recorded.")
	}
	return output
}
