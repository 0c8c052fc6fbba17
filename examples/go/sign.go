package main

import (
	"encoding/base64"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// signed returns a message whose header proves that the user with this key wrote it: `stint audit` says so.
func signed(subject string, data []byte) *nats.Msg {
	key := must(nkeys.ParseDecoratedNKey(must(os.ReadFile(os.Getenv("STINT_NATS_NKEY_FILE")))))
	text := append([]byte("\xffstint-signature-1\n"+subject+"\n"), data...)
	signature := base64.RawURLEncoding.EncodeToString(must(key.Sign(text)))
	header := nats.Header{"Stint-Signature": {must(key.PublicKey()) + "." + signature}}
	return &nats.Msg{Subject: subject, Header: header, Data: data}
}
