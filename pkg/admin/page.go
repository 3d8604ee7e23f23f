package admin

import (
	"bytes"
	"context"
	_ "embed" // the page and its style
	"html/template"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

const (
	// pageRefresh is how often the page loads itself again, in seconds.
	pageRefresh = 5
	// pageLetters is how many dead letters the page shows.
	pageLetters = 20
)

//go:embed page.html
var pageText string

//go:embed style.css
var styleText []byte

// pageTemplate is parsed when somebody looks at the page, and not at every start.
var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"text":    func(s string) string { return safetext.Line(s, 0) },
		"ago":     ago,
		"lasting": lasting,
		"count":   count,
		"size":    size,
	}).Parse(pageText))
})

// pageData is what the page shows.
type pageData struct {
	Status
	Now     time.Time
	Began   *time.Time
	Refresh int // seconds; 0: not by itself
	// Troubles are what fails but for the sinks.
	Troubles []trouble
	Letters  []Parcel
	// LettersError says why they cannot be shown.
	LettersError string
}

// trouble is something that fails.
type trouble struct {
	What string
	At   *time.Time // since when
	*FailingStatus
}

// troubles are what fails but for the sinks.
func (st *Status) troubles() (all []trouble) {
	add := func(f *FailingStatus, what string) {
		if f != nil {
			all = append(all, trouble{what, &f.Since, f})
		}
	}
	for _, q := range st.Queues {
		of := ""
		if q.SubAppID != 0 {
			of = " for application " + strconv.FormatUint(q.SubAppID, 10)
		}
		add(q.PullFailing, "Pulling"+of)
		add(q.ConfirmFailing, "Confirming"+of)
	}
	add(st.StoreFailing, "The store")
	return all
}

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	data := pageData{Status: s.Status(r.Context()), Now: time.Now(), Began: &s.started, Refresh: pageRefresh}
	if r.URL.Query().Get("refresh") == "off" {
		data.Refresh = 0
	}
	data.Troubles = data.troubles()
	data.Letters, data.LettersError = s.letters(r.Context())
	var body bytes.Buffer
	if err := pageTemplate().Execute(&body, data); err != nil {
		s.log.Error("the admin page cannot be made", zap.Error(err))
		fail(w, http.StatusInternalServerError, "the page cannot be made: see vodrelay's log, and /status")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(body.Bytes()) // a browser that went away needs no page
}

// letters are the latest dead letters, or why they cannot be shown.
func (s *Server) letters(ctx context.Context) ([]Parcel, string) {
	if s.opts.Parcels == nil {
		return nil, ""
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	latest, err := s.opts.Parcels.Latest(ctx, event.ParcelDead, pageLetters)
	if err != nil {
		return nil, err.Error()
	}
	return views(latest, false), ""
}

func style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=300")
	_, _ = w.Write(styleText) // as above
}

// ago is the time from t to now in its largest unit; "never" for nil.
func ago(now time.Time, t *time.Time) string {
	if t == nil {
		return "never"
	}
	d := now.Sub(*t)
	switch {
	case d < time.Second:
		return "now"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " days"
}

// lasting is how long something has lasted that began at t.
func lasting(now time.Time, t *time.Time) string {
	if d := ago(now, t); d != "now" {
		return d
	}
	return "a moment"
}

// count is a number with its thousands apart.
func count(v any) string {
	var n int64
	switch v := v.(type) {
	case int:
		n = int64(v)
	case int64:
		n = v
	case *uint64:
		return count(*v)
	case uint64:
		n = int64(min(v, 1<<63-1))
	}
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// size is bytes in a unit that people read.
func size(bytes int64) string {
	const unit = 1024
	if bytes < unit {
		return strconv.FormatInt(bytes, 10) + " B"
	}
	value, units := float64(bytes), []string{"KiB", "MiB", "GiB", "TiB"}
	at := -1
	for value >= unit && at < len(units)-1 {
		value /= unit
		at++
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + units[at]
}
