package target

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// Mode is a way to answer.
type Mode string

// The modes of the webhook.
const (
	OK        Mode = "ok"         // accepts
	Down      Mode = "503"        // answers 503, and accepts nothing
	Hang      Mode = "hang"       // takes the request, and never answers
	Slow      Mode = "slow"       // accepts, and answers late
	LostReply Mode = "lost reply" // accepts, and cuts the connection instead of an answer
	Refuse    Mode = "422"        // refuses the event
)

// Behaviour is how the webhook answers.
type Behaviour struct {
	Mode  Mode
	Share float64       // of the requests that Mode is for; the others are accepted
	Delay time.Duration // of Slow
	// Poison is a text; events with it are refused by 422 whatever the mode. Empty: none.
	Poison string
}

// Change is a behaviour and the time from which it held.
type Change struct {
	At time.Time
	Behaviour
}

const behaviourFile = "behaviour.json"

// writeBehaviour is for the process that controls, readBehaviour for the one that behaves. A file outlives a kill.
func writeBehaviour(dir string, b Behaviour) error {
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, behaviourFile)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func readBehaviour(dir string) (b Behaviour, err error) {
	text, err := os.ReadFile(filepath.Join(dir, behaviourFile))
	if errors.Is(err, os.ErrNotExist) {
		return Behaviour{}, nil
	}
	if err != nil {
		return b, err
	}
	return b, json.Unmarshal(text, &b)
}

// choose is the mode for one request.
func (b Behaviour) choose() Mode {
	if b.Mode == "" || rand.Float64() >= b.Share { //nolint:gosec // any choice will do
		return OK
	}
	return b.Mode
}
