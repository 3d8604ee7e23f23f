package vod

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	tchttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	stsService = "sts"
	stsVersion = "2018-08-13"
)

type (
	assumeRoleRequest struct {
		*tchttp.BaseRequest
		RoleArn         string
		RoleSessionName string
		DurationSeconds int64
		ExternalID      *string `json:"ExternalId,omitempty"`
	}
	webIdentityRequest struct {
		*tchttp.BaseRequest
		ProviderID       string `json:"ProviderId"`
		WebIdentityToken string
		RoleArn          string
		RoleSessionName  string
		DurationSeconds  int64
	}
)

// assumeRole exchanges the base credential for one of a role. The SDK's own provider does so once per
// tenth of the lifetime, on the request's goroutine, without a context.
// Source: https://cloud.tencent.com/document/api/1312/48197.
func (s *sources) assumeRole(base Provider) (Provider, error) {
	at, err := parseEndpoint(s.cfg.STSEndpoint, defaultSTSEndpoint)
	if err != nil {
		return nil, fmt.Errorf("credentials.sts_endpoint: %w", err)
	}
	assume := func(cred Credential) Provider {
		return providerFunc(func(ctx context.Context) (Credential, error) {
			key := common.NewTokenCredential(cred.SecretID, cred.SecretKey, cred.Token)
			req := &assumeRoleRequest{
				BaseRequest: newBase(stsService, stsVersion, "AssumeRole"),
				RoleArn:     s.cfg.RoleARN, RoleSessionName: s.cfg.SessionName,
				DurationSeconds: int64(s.cfg.Duration / time.Second), ExternalID: given(s.cfg.ExternalID),
			}
			role, err := s.sts(ctx, key, at, s.cfg.STSRegion, req)
			role.Source = "role " + s.cfg.RoleARN + ", assumed with the credential from " + cred.Source
			role.untidy = cred.untidy
			return role, err
		})
	}
	return providerFunc(func(ctx context.Context) (Credential, error) {
		cred, err := base.Retrieve(ctx)
		if err == nil {
			err = cred.tidy()
		}
		if err != nil {
			return Credential{}, err
		}
		return s.limited("assume_role", assume(cred)).Retrieve(ctx)
	}), nil
}

// webIdentity exchanges the token of a pod in TKE for a credential of its role. The token's file is read
// each time, since TKE replaces it.
// Source: https://cloud.tencent.com/document/product/457/81989.
func (s *sources) webIdentity() (Provider, error) {
	at, err := parseEndpoint(s.cfg.STSEndpoint, defaultSTSEndpoint)
	if err != nil {
		return nil, fmt.Errorf("credentials.sts_endpoint: %w", err)
	}
	return providerFunc(func(ctx context.Context) (Credential, error) {
		req := &webIdentityRequest{
			BaseRequest:     newBase(stsService, stsVersion, "AssumeRoleWithWebIdentity"),
			RoleSessionName: s.cfg.SessionName,
			DurationSeconds: int64(s.cfg.Duration / time.Second),
		}
		req.SetSkipSign(true) // the token takes the signature's place
		var tokenFile string
		for name, target := range map[string]*string{"TKE_ROLE_ARN": &req.RoleArn, "TKE_PROVIDER_ID": &req.ProviderID, "TKE_WEB_IDENTITY_TOKEN_FILE": &tokenFile} {
			if *target = s.getenv(name); *target == "" {
				return Credential{}, missing("TKE_ROLE_ARN, TKE_PROVIDER_ID and TKE_WEB_IDENTITY_TOKEN_FILE are not all set")
			}
		}
		if err := readInto(tokenFile, &req.WebIdentityToken); err != nil {
			return Credential{}, err
		}
		req.WebIdentityToken, _ = bare(req.WebIdentityToken)
		region := s.getenv("TKE_REGION")
		if region == "" {
			region = s.cfg.STSRegion
		}
		cred, err := s.sts(ctx, nil, at, region, req)
		cred.Source = "TKE role " + req.RoleArn
		return cred, err
	}), nil
}

// sts makes one call that returns a temporary credential.
func (s *sources) sts(ctx context.Context, key common.CredentialIface, at endpoint, region string, req tchttp.Request) (Credential, error) {
	sdk, err := newSDK(key, at, region, s.transport)
	if err != nil {
		return Credential{}, err
	}
	var (
		keys struct {
			Token        string
			TmpSecretID  string `json:"TmpSecretId"`
			TmpSecretKey string
		}
		expired int64
	)
	_, err = call(ctx, sdk, req, s.cfg.Timeout, s.limits, circumstances{sts: true},
		intoFields(map[string]any{"Credentials": &keys, "ExpiredTime": &expired}))
	if err != nil {
		return Credential{}, err
	}
	if expired <= 0 || keys.TmpSecretID == "" {
		return Credential{}, retry.WithHint(errors.New("the reply of STS holds no credential"), "check vod.credentials.sts_endpoint")
	}
	return Credential{SecretID: keys.TmpSecretID, SecretKey: keys.TmpSecretKey, Token: keys.Token, Expires: time.Unix(expired, 0)}, nil
}
