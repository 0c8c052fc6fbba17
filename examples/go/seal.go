package main

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
)

type object = map[string]any

var role = cmp.Or(os.Getenv("STINT_ROLE"), "stint-job")

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func toJSON(value any) []byte { return must(json.Marshal(value)) }

func sha(parts ...[]byte) string { return fmt.Sprintf("%x", sha256.Sum256(bytes.Join(parts, nil))) }

func random(size int) string {
	bytes := make([]byte, size)
	must(rand.Read(bytes))
	return fmt.Sprintf("%x", bytes)
}

func vault(path, wrapTTL string, body object, answer any) {
	request := must(http.NewRequest("POST", os.Getenv("VAULT_ADDR")+"/v1/"+path, bytes.NewReader(toJSON(body))))
	request.Header.Set("X-Vault-Token", os.Getenv("VAULT_TOKEN"))
	request.Header.Set("X-Vault-Wrap-TTL", wrapTTL)
	response := must(http.DefaultClient.Do(request))
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		log.Fatalf("Vault refuses %s: HTTP %d.", path, response.StatusCode)
	}
	must(0, json.NewDecoder(response.Body).Decode(answer))
}

func encrypt(key, boundTo string, value any) string {
	var answer struct{ Data struct{ Ciphertext string } }
	vault("transit/encrypt/"+key, "", object{"plaintext": toJSON(value), "associated_data": []byte(boundTo)}, &answer)
	return answer.Data.Ciphertext
}

// seal encrypts a job for the runners, and a ticket for this queue and job alone.
func seal(id, queue string, job object) (payload, ticket string) {
	var wrapped struct {
		Info struct{ Token string } `json:"wrap_info"`
	}
	payload = encrypt(role, "", job)
	vault("auth/approle/role/"+role+"/secret-id", "24h", object{}, &wrapped)
	parts := object{"wrap_secret_id": wrapped.Info.Token, "payload_sha256": sha([]byte(payload))}
	return payload, encrypt("stint-bus", "stint1."+queue+"."+id, parts)
}
