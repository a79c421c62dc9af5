// Sends one event to Kafka. The key keeps repeated sends in one partition, where the id counts once.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	event := `{"time": "%s", "user_id": "ada", "realm": "acme", "id": "shop:4711"}`
	event = fmt.Sprintf(event, time.Now().UTC().Format(time.RFC3339))
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
