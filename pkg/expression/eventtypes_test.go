package expression_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/expression"
)

func TestUndocumentedTypes(t *testing.T) {
	upload := expression.UndocumentedType{Text: "NewFileUploaded", Near: "NewFileUpload"}
	for src, want := range map[string][]expression.UndocumentedType{
		`type == "NewFileUpload"`:                                                         nil,
		`type == "NewFileUploaded"`:                                                       {upload},
		`"NewFileUploaded" == type`:                                                       {upload},
		`"NewFileUploaded" != type and "zz" < type`:                                       {upload},
		`not (type != "NewFileUploaded") || type == "newfileupload"`:                      {upload, {Text: "newfileupload", Near: "NewFileUpload"}},
		`type in ["FileDeleted", "NewFileUploaded", "Nonsense", "NewFileUploaded"]`:       {upload, {Text: "Nonsense"}},
		`type not in ["FileDelete"]`:                                                      {{Text: "FileDelete", Near: "FileDeleted"}},
		`event.EventType == "NewFileUploaded" && event?.EventType != "NewFileUploaded"`:   {upload},
		`FileUploadEvent.MediaBasicInfo.Type == "mp4" and subject == "NewFileUploaded"`:   nil,
		`payload.type == "NewFileUploaded" or event.FileUploadEvent.EventType == "x"`:     nil,
		`type == "unknown" or type startsWith "New" or type == subject or type == nil`:    nil,
		`(type == "NewFileUploaded" ? sub_app_id == 1 : type in ["FileDeleted"]) == true`: {upload},
	} {
		cond, err := expression.CompileCondition(src)
		require.NoError(t, err, src)
		require.Equal(t, want, cond.UndocumentedTypes(), src)
	}
}
