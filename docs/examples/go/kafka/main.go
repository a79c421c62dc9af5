// Sends one event to Kafka. The key keeps repeated sends in one partition, where the id counts once.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	event := `{"time": "2026-11-20T10:00:00Z", "user_id": "ada", "realm": "acme", "id": "shop:4711"}`
	client, err := kgo.NewClient(kgo.SeedBrokers(os.Getenv("KAFKA")))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	record := &kgo.Record{Topic: "auth.logins", Key: []byte("shop:4711"), Value: []byte(event)}
	if err := client.ProduceSync(context.Background(), record).FirstErr(); err != nil {
		panic(err)
	}
	fmt.Println("acknowledged")
}
