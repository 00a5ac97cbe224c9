package ec2

import (
	_ "embed"
)

//go:embed demo.yaml
var demo []byte

// DemoRole is the role that Demo's management account may assume in its members.
const DemoRole = "cloudaudit"

// Demo returns an organization of two accounts and two regions with every kind of finding in it, and with things that
// merely look like one. It is a new value each time.
func Demo() *World {
	w, err := Parse(demo)
	if err != nil {
		panic(err) // the scene is part of the program
	}
	return w
}
