package emulator_test

import (
	"encoding/json"
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	sdkerrors "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/errors"
	tchttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// A request of Tencent's own SDK is accepted, also with a token and a region.
func TestSDK(t *testing.T) {
	for _, token := range []string{"", "token"} {
		s := emulator.New(emulator.Options{Credentials: map[string]emulator.Credential{"id": {SecretKey: "key", Token: token}}})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()

		p := profile.NewClientProfile()
		p.HttpProfile.Scheme = "HTTP"
		p.HttpProfile.Endpoint = l.Addr().String()
		client := common.NewCommonClient(common.NewTokenCredential("id", "key", token), "ap-guangzhou", p)
		call := func(action string, parameters map[string]any) (map[string]json.RawMessage, error) {
			request := tchttp.NewCommonRequest("vod", "2018-07-17", action)
			require.NoError(t, request.SetActionParameters(parameters))
			response := tchttp.NewCommonResponse()
			if err := client.Send(request, response); err != nil {
				return nil, err
			}
			var envelope struct{ Response map[string]json.RawMessage }
			require.NoError(t, json.Unmarshal(response.GetBody(), &envelope))
			return envelope.Response, nil
		}

		sample, err := emulator.Sample(emulator.SampleReliable)
		require.NoError(t, err)
		s.Publish(1500000001, sample)
		answer, err := call(emulator.ActionPullEvents, map[string]any{"SubAppId": uint64(1500000001)})
		require.NoError(t, err)
		var events []struct{ EventHandle string }
		require.NoError(t, json.Unmarshal(answer["EventSet"], &events))
		require.Len(t, events, 1)
		_, err = call(emulator.ActionConfirmEvents, map[string]any{"SubAppId": uint64(1500000001), "EventHandles": []string{events[0].EventHandle}})
		require.NoError(t, err)
		require.True(t, s.Confirmed(1))
		_, err = call("DescribeTaskDetail", map[string]any{})
		var sdkErr *sdkerrors.TencentCloudSDKError
		require.True(t, errors.As(err, &sdkErr))
		require.Equal(t, "InvalidAction", sdkErr.Code)

		s.Close()
		require.NoError(t, <-served)
	}
}
