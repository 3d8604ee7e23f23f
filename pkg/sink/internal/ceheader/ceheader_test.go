package ceheader

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEscape(t *testing.T) {
	require.Equal(t, `com.tencentcloud.vod.%E7%B1%BB%E5%9E%8B%20%22%25%0D%0Ax:%20y`, Escape("com.tencentcloud.vod.类型 \"%\r\nx: y"))
	require.Equal(t, "%EF%BF%BD", Escape("\xff"))
}
