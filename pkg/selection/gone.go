package selection

import "github.com/vodrelay/vodrelay/pkg/event"

// Gone is what waits for a sink that is not in the configuration.
type Gone struct {
	Sink    string `json:"sink"`
	Waiting int64  `json:"waiting"`
	Dead    int64  `json:"dead"`
}

// OfGone adds up the groups of the sinks that are not configured, in the order of the groups. event.Unprocessed is
// never gone.
func OfGone(groups []Group, configured []string) []Gone {
	known := map[string]bool{event.Unprocessed: true}
	for _, name := range configured {
		known[name] = true
	}
	var all []Gone
	at := map[string]int{}
	for _, c := range groups {
		if known[c.Sink] || c.Parcels == 0 {
			continue
		}
		i, seen := at[c.Sink]
		if !seen {
			i = len(all)
			at[c.Sink] = i
			all = append(all, Gone{Sink: c.Sink})
		}
		if c.State == event.ParcelDead {
			all[i].Dead += c.Parcels
		} else {
			all[i].Waiting += c.Parcels
		}
	}
	return all
}
