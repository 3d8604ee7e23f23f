package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// credentialJSON is a key pair in the control API. Nothing that is answered has a secret.
type credentialJSON struct {
	SecretID  string `json:"secret_id"`
	SecretKey string `json:"secret_key,omitempty"`
	Token     string `json:"token,omitempty"`
}

// credentialList is the answer to which SecretIds are accepted.
type credentialList struct {
	Credentials []credentialState `json:"credentials"`
}

type credentialState struct {
	SecretID  string `json:"secret_id"`
	Temporary bool   `json:"temporary"` // has a token
}

func (s *Server) credentialList() credentialList {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]credentialState, 0, len(s.credentials))
	for id, c := range s.credentials {
		list = append(list, credentialState{id, c.Token != ""})
	}
	slices.SortFunc(list, func(a, b credentialState) int { return strings.Compare(a.SecretID, b.SecretID) })
	return credentialList{list}
}

func (s *Server) controlSetCredential(r *http.Request) (any, error) {
	b, err := readAll(r.Body, maxFaultRequest)
	if err != nil {
		return nil, err
	}
	var c credentialJSON
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return nil, errors.New(`credential: write {"secret_id":"ID","secret_key":"KEY"}, and "token" for a temporary one`)
	}
	if c.SecretID == "" || c.SecretKey == "" {
		return nil, errors.New("credential: secret_id or secret_key is empty, write both")
	}
	s.SetCredential(c.SecretID, Credential{SecretKey: c.SecretKey, Token: c.Token})
	return struct{}{}, nil
}

func (s *Server) controlRemoveCredential(r *http.Request) (any, error) {
	if id := r.PathValue("id"); !s.RemoveCredential(id) {
		return nil, fmt.Errorf("credential %s: %w", clip(id), errNotFound)
	}
	return struct{}{}, nil
}

// variantList is the answer to what the server does where the documentation is open.
type variantList struct {
	Variants []variantState `json:"variants"`
}

type variantState struct {
	Variant
	Active bool `json:"active"`
}

func (s *Server) variantList() variantList {
	var list []variantState
	for _, v := range AllVariants() {
		list = append(list, variantState{v, s.opts.Follows(v)})
	}
	return variantList{list}
}
