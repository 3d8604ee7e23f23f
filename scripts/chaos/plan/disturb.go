package plan

// Disturbances are the ways in which a link is disturbed.
var Disturbances = []string{
	"slow", "loss", "reset", "lost replies", "half-open", "hang", "refuse", "requests blocked", "replies blocked", "narrow", "cut",
}
