package emulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "TC3-HMAC-SHA256"
	service    = "vod"
	terminator = "tc3_request"

	// signatureLifetime is how far a request's timestamp may be from the
	// server's clock, either way
	// (https://cloud.tencent.com/document/product/266/31774).
	signatureLifetime = 5 * time.Minute

	maxAuthorization = 4096
	maxSignedHeaders = 32
)

// authorization is a parsed Authorization header.
type authorization struct {
	secretID      string
	date          string // yyyy-mm-dd
	service       string
	signedHeaders []string // lower case, as listed
	signature     [sha256.Size]byte
}

// parseAuthorization reads
//
//	TC3-HMAC-SHA256 Credential=ID/DATE/SERVICE/tc3_request, SignedHeaders=a;b, Signature=HEX
//
// Its errors never repeat the header.
func parseAuthorization(header string) (authorization, error) {
	var a authorization
	if header == "" {
		return a, errors.New("the Authorization header is missing")
	}
	if len(header) > maxAuthorization {
		return a, errors.New("the Authorization header is too long")
	}
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return a, errors.New("the Authorization header does not start with " + algorithm)
	}
	var seen [3]bool
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return a, errors.New("a part of the Authorization header is not name=value")
		}
		var field int
		var err error
		switch name {
		case "Credential":
			field, err = 0, a.setCredential(value)
		case "SignedHeaders":
			field, err = 1, a.setSignedHeaders(value)
		case "Signature":
			field, err = 2, a.setSignature(value)
		default:
			return a, errors.New("the Authorization header has an unknown part")
		}
		if err != nil {
			return a, err
		}
		if seen[field] {
			return a, errors.New("the Authorization header has " + name + " twice")
		}
		seen[field] = true
	}
	if seen != [3]bool{true, true, true} {
		return a, errors.New("the Authorization header needs Credential, SignedHeaders and Signature")
	}
	return a, nil
}

func (a *authorization) setCredential(value string) error {
	parts := strings.Split(value, "/")
	if len(parts) != 4 || slices.Contains(parts, "") || parts[3] != terminator {
		return errors.New("Credential is not SecretId/date/service/" + terminator)
	}
	if _, err := time.Parse(time.DateOnly, parts[1]); err != nil {
		return errors.New("the date in Credential is not yyyy-mm-dd")
	}
	a.secretID, a.date, a.service = parts[0], parts[1], parts[2]
	return nil
}

func (a *authorization) setSignedHeaders(value string) error {
	names := strings.Split(value, ";")
	if len(names) > maxSignedHeaders {
		return errors.New("SignedHeaders lists too many headers")
	}
	if slices.Contains(names, "") || strings.ToLower(value) != value || !slices.IsSorted(names) {
		return errors.New("SignedHeaders is not a sorted list of lower-case header names")
	}
	if !slices.Contains(names, "content-type") || !slices.Contains(names, "host") {
		return errors.New("SignedHeaders lacks content-type or host")
	}
	a.signedHeaders = names
	return nil
}

func (a *authorization) setSignature(value string) error {
	if len(value) != hex.EncodedLen(len(a.signature)) || strings.ToLower(value) != value {
		return errors.New("the Signature is not 64 lower-case hexadecimal digits")
	}
	if _, err := hex.Decode(a.signature[:], []byte(value)); err != nil {
		return errors.New("the Signature is not 64 lower-case hexadecimal digits")
	}
	return nil
}

// verify checks who sent the request. now is the server's clock; lookup
// returns the credential of a SecretId.
func verify(r *http.Request, body []byte, now time.Time, lookup func(string) (Credential, bool)) *apiError {
	auth, err := parseAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		return refuse(codeInvalidAuthorization, "%s", err)
	}
	stamp := r.Header.Get("X-TC-Timestamp")
	if stamp == "" {
		return refuse(codeMissingParameter, "The request is missing the header X-TC-Timestamp.")
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return refuse(codeInvalidParameterValue, "X-TC-Timestamp is not a number of seconds.")
	}
	signed := time.Unix(seconds, 0).UTC()
	if age := now.Sub(signed); age > signatureLifetime || age < -signatureLifetime {
		return refuse(codeSignatureExpire,
			"The timestamp is %d s away from the server's clock, more than %d s.", int64(age.Abs()/time.Second), int64(signatureLifetime/time.Second))
	}
	if auth.service != service {
		return refuse(codeSignatureFailure, "The service in Credential is not %q.", service)
	}
	if auth.date != signed.Format(time.DateOnly) {
		return refuse(codeSignatureFailure, "The date in Credential is not the UTC date of X-TC-Timestamp.")
	}
	credential, ok := lookup(auth.secretID)
	if !ok {
		return refuse(codeSecretIDNotFound, "The SecretId is not found, please ensure that your SecretId is correct.")
	}
	if !hmac.Equal([]byte(r.Header.Get("X-TC-Token")), []byte(credential.Token)) {
		return refuse(codeTokenFailure, "The token does not belong to this SecretId.")
	}
	// The algorithm asks for lower-case header values; the SDK signs them as
	// they are sent. Both are accepted.
	for _, lower := range []bool{false, true} {
		headers := canonicalHeaders(r, auth.signedHeaders, lower)
		want := sign(credential.SecretKey, auth.service, stamp, auth.date, r.Method, headers, strings.Join(auth.signedHeaders, ";"), body)
		if hmac.Equal(want, auth.signature[:]) {
			return nil
		}
	}
	return refuse(codeSignatureFailure, "The provided credentials could not be validated. Please check your signature is correct.")
}

func canonicalHeaders(r *http.Request, names []string, lower bool) string {
	var b strings.Builder
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		value = strings.TrimSpace(value)
		if lower {
			value = strings.ToLower(value)
		}
		b.WriteString(name + ":" + value + "\n")
	}
	return b.String()
}

// sign computes the signature of a request to "/" without a query
// (https://www.tencentcloud.com/document/product/267/37447).
func sign(secretKey, service, stamp, date, method, headers, signedHeaders string, body []byte) []byte {
	canonical := method + "\n/\n\n" + headers + "\n" + signedHeaders + "\n" + hexHash(body)
	text := algorithm + "\n" + stamp + "\n" + date + "/" + service + "/" + terminator + "\n" + hexHash([]byte(canonical))
	key := mac([]byte("TC3"+secretKey), date)
	key = mac(key, service)
	key = mac(key, terminator)
	return mac(key, text)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
