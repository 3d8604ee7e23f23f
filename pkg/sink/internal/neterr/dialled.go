package neterr

import "errors"

// DialError is an attempt to reach an address, which is not always one of the configuration: brokers, clusters and
// sentinels name others.
type DialError struct {
	Address string // what was dialled: host:port, or as the configuration has it
	From    string // who named it, such as "advertised by kafka-1:9092"; "" for the configuration
	Key     string // what to correct it in, where From is set
	Err     error
}

func (d *DialError) Error() string { return d.Err.Error() }
func (d *DialError) Unwrap() error { return d.Err }

// Source is where addresses come from that are not in the configuration.
type Source struct {
	Configured map[string]string // what to call each, by its host:port
	From, Key  string            // of DialError
}

// Failed is err, of an attempt to reach address, with what has to be known about that address; nil for nil.
func (s Source) Failed(address string, err error) error {
	if err == nil {
		return nil
	}
	if name, ok := s.Configured[address]; ok {
		return &DialError{Address: name, Err: err}
	}
	return &DialError{Address: address, From: s.From, Key: s.Key, Err: err}
}

// At is what to call the other side in err: the address that was dialled, or else configured.
func At(configured string, err error) string {
	var dialled *DialError
	switch {
	case !errors.As(err, &dialled):
		return configured
	case dialled.From != "":
		return dialled.Address + ", " + dialled.From
	}
	return dialled.Address
}

// For is t with the place in which the address is to be corrected that err is about.
func (t Target) For(err error) Target {
	if dialled := (*DialError)(nil); errors.As(err, &dialled) && dialled.Key != "" {
		t.Key = dialled.Key
	}
	return t
}
