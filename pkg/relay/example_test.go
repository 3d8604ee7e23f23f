package relay_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
)

// A program of your own needs a source and a handler. With the real queue the source is
// vod.New(vod.DefaultConfig()) and its Queue(subAppID); here it is one in memory.
func Example() {
	queue := &relaytest.Queue{Hold: 10 * time.Millisecond}
	queue.Publish(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"5285890784273533167","MediaBasicInfo":{"Name":"Animal World"}}}`)

	handler := relay.HandlerFunc(func(_ context.Context, d event.Delivery) error {
		upload, err := d.FileUpload()
		if err != nil {
			return err // not settled: the queue delivers it again
		}
		fmt.Println(upload.FileId, upload.MediaBasicInfo.Name)
		return nil // settled: the relay confirms it
	})
	r, err := relay.New(relay.DefaultConfig(), nil, handler, queue)
	if err != nil {
		log.Fatal(err)
	}
	sum, err := r.Drain(context.Background(), relay.DrainOptions{}) // or Run, until its context is done
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("confirmed:", sum.Confirmed)
	// Output:
	// 5285890784273533167 Animal World
	// confirmed: 1
}
