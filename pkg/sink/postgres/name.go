package postgres

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
)

// maxName is the most bytes of a name: PostgreSQL cuts longer ones (NAMEDATALEN).
const maxName = 63

// parseName reads a name of up to parts parts as SQL does: dots between them, capital letters small unless in double
// quotes. Written back with Sanitize, it is quoted.
func parseName(text string, parts int) (pgx.Identifier, error) {
	var name pgx.Identifier
	for rest := text; ; {
		part, after, err := parsePart(rest)
		if err != nil {
			return nil, err
		}
		name = append(name, part)
		if after == "" {
			break
		}
		if after[0] != '.' {
			return nil, errors.New("is not a name in SQL: put double quotes around each part that has other characters than letters, digits and underscores")
		}
		rest = after[1:]
	}
	if len(name) > parts {
		return nil, fmt.Errorf("has %d parts with dots between them, %d at most", len(name), parts)
	}
	return name, nil
}

func parseColumn(text string) (string, error) {
	name, err := parseName(text, 1)
	if err != nil {
		return "", err
	}
	return name[0], nil
}

// plainName is the length of the name without quotes that text begins with.
func plainName(text string) int {
	for at, r := range text {
		switch {
		case r == '_', unicode.IsLetter(r):
		case at > 0 && (r == '$' || unicode.IsNumber(r)):
		default:
			return at
		}
	}
	return len(text)
}

// parsePart takes the first part off text.
func parsePart(text string) (part, rest string, err error) {
	quoted, isQuoted := strings.CutPrefix(text, `"`)
	if !isQuoted {
		end := plainName(text)
		part, rest = lower(text[:end]), text[end:]
	} else {
		var b strings.Builder
		for {
			end := strings.IndexByte(quoted, '"')
			if end < 0 {
				return "", "", errors.New("lacks the closing double quote")
			}
			b.WriteString(quoted[:end])
			quoted = quoted[end+1:]
			if !strings.HasPrefix(quoted, `"`) {
				break
			}
			b.WriteByte('"')
			quoted = quoted[1:]
		}
		part, rest = b.String(), quoted
	}
	switch {
	case part == "" && text == "":
		return "", "", errors.New("lacks a name")
	case part == "":
		return "", "", errors.New("is not a name in SQL: put double quotes around each part that has other characters than letters, digits and underscores")
	case len(part) > maxName:
		return "", "", fmt.Errorf("is longer than the %d bytes that PostgreSQL takes", maxName)
	case strings.ContainsRune(part, 0):
		return "", "", errors.New("must not contain a NUL character")
	}
	return part, rest, nil
}

// lower is how PostgreSQL folds names in UTF-8: ASCII only.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
