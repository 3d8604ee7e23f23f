package emulator_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// The emulator behind a server of the test's own, used over its control API.
func Example() {
	emu := emulator.New(emulator.Options{SubAppIDs: []uint64{1500000001}})
	defer emu.Close()
	web := httptest.NewServer(emu)
	defer web.Close()

	post := func(path, body string) string {
		resp, err := http.Post(web.URL+"/_emulator/"+path, "application/json", strings.NewReader(body))
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		return strings.TrimSpace(string(answer))
	}
	fmt.Println(post("events?sub_app_id=1500000001&generate=100", ""))
	fmt.Println(post("faults", `{"kind":"lose-reply","action":"ConfirmEvents","times":3}`))
	fmt.Println(emu.Counts().Ready, "events wait")
	// Output:
	// {"count":100,"first":1,"last":100}
	// {"id":1}
	// 100 events wait
}
