package vod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

const rolePath = "/latest/meta-data/cam/security-credentials/"

// cvm reads the temporary key of the role that is bound to the instance.
// Source: https://cloud.tencent.com/document/product/213/4934.
func (s *sources) cvm() (Provider, error) {
	at, err := parseEndpoint(s.cfg.MetadataURL, defaultMetadataURL)
	if err != nil {
		return nil, fmt.Errorf("credentials.metadata_url: %w", err)
	}
	t := newTransport(s.dial, nil)
	t.Proxy = nil // the metadata service is on this machine's own link
	t.DisableKeepAlives = true
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	base := at.scheme + "://" + at.host + rolePath

	return providerFunc(func(ctx context.Context) (Credential, error) {
		role := s.cfg.CVMRole
		if role == "" {
			text, err := s.metadata(ctx, client, base)
			if err != nil {
				return Credential{}, err
			}
			role, _, _ = strings.Cut(strings.TrimSpace(string(text)), "\n")
			role = strings.TrimSpace(role)
			if role == "" {
				return Credential{}, missing("no role is bound to this instance")
			}
		}
		if len(role) > 128 || strings.ContainsAny(role, "<>{}/ \t") {
			return Credential{}, errors.New("the metadata service's answer is not the name of a role")
		}
		text, err := s.metadata(ctx, client, base+url.PathEscape(role))
		if err != nil {
			return Credential{}, err
		}
		var key struct {
			TmpSecretID  string `json:"TmpSecretId"`
			TmpSecretKey string
			Token        string
			ExpiredTime  int64
			Code         string
		}
		if json.Unmarshal(text, &key) != nil { // its error may quote the key
			return Credential{}, errors.New("the metadata service's answer is not the documented JSON")
		}
		if key.Code != "Success" || key.ExpiredTime <= 0 {
			return Credential{}, fmt.Errorf("the metadata service has no key for role %s: code %s", role, safetext.Line(key.Code, 64))
		}
		return Credential{
			SecretID: key.TmpSecretID, SecretKey: key.TmpSecretKey, Token: key.Token,
			Expires: time.Unix(key.ExpiredTime, 0), Source: "CVM role " + role,
		}, nil
	}), nil
}

func (s *sources) metadata(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, retry.Permanent(errors.New("the metadata service's address is not valid"))
	}
	resp, err := client.Do(req)
	if err != nil {
		// Off the cloud there is no such service, so in the search of auto it is not there; a relay that
		// was told to use it keeps asking.
		var op *net.OpError
		if s.cfg.Provider != "cvm" && s.cfg.Base != "cvm" && errors.As(err, &op) && op.Op == "dial" {
			return nil, missing("the metadata service cannot be reached, so this is no CVM instance")
		}
		reason, _ := describe(err, &exchange{})
		return nil, retry.WithHint(errors.New("the metadata service: "+reason), "check vod.credentials.metadata_url, and that this machine is a CVM instance")
	}
	defer func() { _ = resp.Body.Close() }() // read as far as it will be
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, missing("no role is bound to this instance, or it has another name")
	default:
		return nil, fmt.Errorf("the metadata service: HTTP %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxSmallFile))
	if err != nil {
		reason, _ := describe(err, &exchange{})
		return nil, errors.New("the metadata service: " + reason)
	}
	return text, nil
}
