// Package mistakes is a suite of what people do wrong on day 2, while vodrelay runs: wrong configurations, targets, rights
// and commands, each against the real program and real servers. One mistake is one entry in one of the tables; see the
// type mistake in suite_test.go for what an entry says, and what the suite itself asserts after each: nothing is lost.
package mistakes
