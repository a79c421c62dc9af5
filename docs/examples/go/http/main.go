// Sends one event over HTTP. Sending it again is safe: events with the same id count once.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	event := `{"type": "login", "time": "%s", "user_id": "ada", "realm": "acme", "id": "shop:4711"}`
	event = fmt.Sprintf(event, time.Now().UTC().Format(time.RFC3339))
	request, _ := http.NewRequest("POST", os.Getenv("AUTHTALLY_URL")+"/v1/events", strings.NewReader(event))
	request.Header.Set("Authorization", "Bearer "+os.Getenv("AUTHTALLY_TOKEN"))
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	body, _ := io.ReadAll(answer.Body)
	fmt.Println(string(body))
	if answer.StatusCode != 202 {
		os.Exit(1)
	}
}
