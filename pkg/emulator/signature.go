package emulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/url"
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
	hosts := hostForms(r)
	if auth.service != service && !slices.ContainsFunc(hosts, func(host string) bool { return auth.service == firstLabel(host) }) {
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
	// The algorithm asks for lower-case header values; the Go SDK signs them as they are sent, and the
	// Node.js SDK signs the host without its port. All are accepted.
	for _, host := range hosts {
		for _, lower := range []bool{false, true} {
			canonical := auth.canonical(r, host, lower, body)
			want := sign(credential.SecretKey, auth.service, auth.date, auth.stringToSign(stamp, canonical))
			if hmac.Equal(want, auth.signature[:]) {
				return nil
			}
		}
	}
	e := refuse(codeSignatureFailure, "The provided credentials could not be validated. Please check your signature is correct.")
	canonical := auth.canonical(r, r.Host, false, body)
	e.expected = &WrongSignature{SecretID: auth.secretID, Host: r.Host, CanonicalRequest: canonical, StringToSign: auth.stringToSign(stamp, canonical)}
	if token := r.Header.Get("X-TC-Token"); token != "" {
		e.expected.CanonicalRequest = strings.ReplaceAll(canonical, token, "(hidden)")
	}
	return e
}

// WrongSignature is a request whose signature is not that of its SecretId. It holds no secret: the token of a
// temporary key is left out of CanonicalRequest.
type WrongSignature struct {
	// Action is the X-TC-Action of the request.
	Action string
	// SecretID is that of the request.
	SecretID string
	// Host is the request's; a signature over it without its port is accepted, too.
	Host string
	// CanonicalRequest and StringToSign are what should have been signed, see
	// https://www.tencentcloud.com/document/product/267/37447.
	CanonicalRequest, StringToSign string
}

// hostForms are the hosts that clients sign, which differ in the port: as it was sent, without a port, and with
// the port that the client has connected to.
func hostForms(r *http.Request) []string {
	forms := []string{r.Host}
	if u := (url.URL{Host: r.Host}); u.Port() != "" {
		return append(forms, strings.TrimSuffix(r.Host, ":"+u.Port()))
	}
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if _, port, err := net.SplitHostPort(at.String()); err == nil {
			forms = append(forms, r.Host+":"+port)
		}
	}
	return forms
}

// firstLabel is what the Node.js SDK takes for the service's name: vod.tencentcloudapi.com has the right one.
func firstLabel(host string) string {
	label, _, _ := strings.Cut(host, ".")
	return label
}

// canonical is the canonical request to "/" without a query, with the given host
// (https://www.tencentcloud.com/document/product/267/37447).
func (a authorization) canonical(r *http.Request, host string, lower bool, body []byte) string {
	return canonicalRequest(r.Method, canonicalHeaders(r, host, a.signedHeaders, lower), strings.Join(a.signedHeaders, ";"), body)
}

func canonicalRequest(method, headers, signedHeaders string, body []byte) string {
	return method + "\n/\n\n" + headers + "\n" + signedHeaders + "\n" + hexHash(body)
}

func (a authorization) stringToSign(stamp, canonical string) string {
	return stringToSign(stamp, a.date, a.service, canonical)
}

func stringToSign(stamp, date, service, canonical string) string {
	return algorithm + "\n" + stamp + "\n" + date + "/" + service + "/" + terminator + "\n" + hexHash([]byte(canonical))
}

func canonicalHeaders(r *http.Request, host string, names []string, lower bool) string {
	var b strings.Builder
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			value = host
		}
		value = strings.TrimSpace(value)
		if lower {
			value = strings.ToLower(value)
		}
		b.WriteString(name + ":" + value + "\n")
	}
	return b.String()
}

// sign computes the signature of a string to sign.
func sign(secretKey, service, date, text string) []byte {
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
