package app_test

import (
	"math/rand/v2"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// anyVariants takes one answer to each question that VOD's documentation leaves open.
func anyVariants(random *rand.Rand) (names []string) {
	answers := map[emulator.Question][]string{}
	var questions []emulator.Question
	for _, v := range emulator.AllVariants() {
		if answers[v.Question] == nil {
			questions = append(questions, v.Question)
		}
		answers[v.Question] = append(answers[v.Question], v.Name)
	}
	for _, q := range questions {
		names = append(names, answers[q][random.IntN(len(answers[q]))])
	}
	return names
}
