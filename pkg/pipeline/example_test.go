package pipeline_test

import (
	"context"
	"fmt"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
)

const sample = `{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"5285890784273533167",
	"MediaBasicInfo":{"Name":"Animal World","Type":"mp4"},"MetaData":{"Duration":61.50}}}`

// A pipeline with a processor and a sink of its own.
func Example() {
	mp4Only := pipeline.ProcessorFunc(func(_ context.Context, e event.Event) (event.Event, error) {
		if upload, err := e.FileUpload(); err != nil || upload.MediaBasicInfo.Type != "mp4" {
			return e, pipeline.ErrSkip
		}
		return e, nil
	})
	printer := pipeline.SinkFunc(func(_ context.Context, e event.Event) error {
		fmt.Println(e.Type, e.Subject())
		return nil
	})
	p, err := pipeline.New(nil, []pipeline.Processor{mp4Only}, []pipeline.Route{{Name: "printer", Sink: printer}})
	if err != nil {
		fmt.Println(err)
		return
	}
	e, _, _ := event.Decode([]byte(sample), 0)
	fmt.Println(p.Handle(context.Background(), event.Delivery{Event: e}), p.Close(context.Background()))
	// Output:
	// NewFileUpload 5285890784273533167
	// <nil> <nil>
}

func ExampleCompileCondition() {
	long, err := pipeline.CompileCondition(`FileUploadEvent.MetaData.Duration > 60`)
	if err != nil {
		fmt.Println(err)
		return
	}
	e, _, _ := event.Decode([]byte(sample), 0)
	fmt.Println(long.Match(context.Background(), e))

	_, err = pipeline.CompileCondition(`FileUploadEvent.MetaData.Duratoin > 60`)
	fmt.Println(err)
	// Output:
	// true <nil>
	// expression 'FileUploadEvent.MetaData.Duratoin > 60', column 26: unknown field Duratoin: did you mean Duration? (what is not documented can be read through event, as event.FileUploadEvent.MetaData.Duratoin)
}

func ExampleProject() {
	slim, err := pipeline.Project(
		pipeline.Field{Key: "id", Expr: "payload.FileId"},
		pipeline.Field{Key: "seconds", Expr: "payload.MetaData.Duration"},
		pipeline.Field{Key: "title", Expr: "upper(payload.MediaBasicInfo.Name)"},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	e, _, _ := event.Decode([]byte(sample), 0)
	e, err = slim.Process(context.Background(), e)
	fmt.Println(string(e.Raw), err)
	// Output:
	// {"id":"5285890784273533167","seconds":61.50,"title":"ANIMAL WORLD"} <nil>
}
