package emulator

import "fmt"

// The error codes that the emulator answers by itself. Sources: the lists of
// each action (https://cloud.tencent.com/document/api/266/33433 and its
// siblings) and of all actions (https://cloud.tencent.com/document/product/266/31774).
const (
	codeInvalidAuthorization  = "AuthFailure.InvalidAuthorization"
	codeSecretIDNotFound      = "AuthFailure.SecretIdNotFound"
	codeSignatureExpire       = "AuthFailure.SignatureExpire"
	codeSignatureFailure      = "AuthFailure.SignatureFailure"
	codeTokenFailure          = "AuthFailure.TokenFailure"
	codeFailedOperation       = "FailedOperation"
	codeInternalError         = "InternalError"
	codeInvalidAction         = "InvalidAction"
	codeInvalidParameter      = "InvalidParameter"
	codeInvalidParameterValue = "InvalidParameterValue"
	codeInvalidSubAppID       = "InvalidParameterValue.SubAppId"
	codeLimitExceeded         = "LimitExceeded"
	codeMissingParameter      = "MissingParameter"
	codeNoSuchVersion         = "NoSuchVersion"
	codeRequestLimitExceeded  = "RequestLimitExceeded"
	codeRequestSizeExceeded   = "RequestSizeLimitExceeded"
	codeResourceNotFound      = "ResourceNotFound"
	codeUnauthorizedOperation = "UnauthorizedOperation"
	codeUnknownParameter      = "UnknownParameter"
	codeUnsupportedOperation  = "UnsupportedOperation"
	codeUnsupportedProtocol   = "UnsupportedProtocol"
)

// apiError is the Error object of an answer.
type apiError struct {
	Code    string
	Message string

	// quiet is set when the journal needs no entry: nothing was refused, or it
	// has one for each handle.
	quiet bool
	// expected is what a wrong signature should have signed.
	expected *WrongSignature
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

func refuse(code, format string, args ...any) *apiError {
	return &apiError{Code: code, Message: fmt.Sprintf(format, args...)}
}
