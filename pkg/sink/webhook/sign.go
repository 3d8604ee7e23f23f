package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// maxSecrets is the most keys in use at one time.
const maxSecrets = 8

// parseSecrets reads the keys in text. Source for whsec_:
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
func parseSecrets(text string) ([][]byte, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return nil, errors.New("is empty")
	}
	if len(words) > maxSecrets {
		return nil, fmt.Errorf("has %d secrets, %d at most", len(words), maxSecrets)
	}
	keys := make([][]byte, len(words))
	for i, word := range words {
		encoded, standard := strings.CutPrefix(word, "whsec_")
		if !standard {
			keys[i] = []byte(word)
			continue
		}
		key, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(key) == 0 {
			return nil, errors.New("is not base64 behind whsec_; make one with: echo whsec_$(openssl rand -base64 32)")
		}
		keys[i] = key
	}
	return keys, nil
}

// sign sets the headers of Standard Webhooks. The time is that of this attempt, as the specification wants.
func sign(header http.Header, secrets, id string, body []byte, now time.Time) error {
	keys, err := parseSecrets(secrets)
	if err != nil {
		return err
	}
	signatures := make([]string, len(keys))
	for i, key := range keys {
		webhook, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return errors.New("is not a key")
		}
		if signatures[i], err = webhook.Sign(id, now, body); err != nil {
			return errors.New("cannot sign")
		}
	}
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return nil
}
