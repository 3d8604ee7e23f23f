package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
)

// subscriber is a Watermill subscriber on the event queue, with as many events in hand as vodrelay has by
// default: 64 pollers of 16. A batch is confirmed when its 16 messages have been acknowledged.
type subscriber struct {
	client *common.Client
	failed chan error
}

const subscriberPollers = 64

// runWatermill runs a router with one handler.
func runWatermill(handle target) error {
	client, err := newClient(endpoint(), &http.Transport{MaxIdleConnsPerHost: subscriberPollers})
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	s := &subscriber{client: client, failed: make(chan error, subscriberPollers)}
	router.AddConsumerHandler("handler", topic, s, func(m *message.Message) error { return handle(m.Context(), m.Payload) })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		if err := router.Run(ctx); err != nil {
			s.failed <- err
		}
	}()
	return <-s.failed
}

// Subscribe implements message.Subscriber.
func (s *subscriber) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	for range subscriberPollers {
		go func() {
			for ctx.Err() == nil {
				if err := s.poll(ctx, out); err != nil {
					s.failed <- err
					return
				}
			}
		}()
	}
	return out, nil
}

func (s *subscriber) poll(ctx context.Context, out chan<- *message.Message) error {
	events, err := pull(s.client)
	if err != nil || len(events) == 0 {
		return err
	}
	handles := make([]string, len(events))
	messages := make([]*message.Message, len(events))
	for i, e := range events {
		handles[i], messages[i] = e.handle, message.NewMessage(watermill.NewUUID(), e.body)
		messages[i].SetContext(ctx)
		out <- messages[i]
	}
	for _, m := range messages {
		select {
		case <-m.Acked():
		case <-m.Nacked():
			return errors.New("an event was not handled")
		}
	}
	return confirm(s.client, handles)
}

// Close implements message.Subscriber.
func (s *subscriber) Close() error { return nil }
