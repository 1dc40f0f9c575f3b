package main

import "strings"

// A stringList is the value of a flag that may be given several times. Unlike pflag's own
// it makes no CSV writer to find out that an empty list is shown as nothing: these, one for
// each flag, were a tenth of the memory that noyau run touches before it runs anything.
type stringList []string

// list makes a flag of a variable.
func list(to *[]string) *stringList { return (*stringList)(to) }

// String implements pflag.Value, as do the others.
func (l *stringList) String() string { return strings.Join(*l, ",") }

func (l *stringList) Set(s string) error { *l = append(*l, s); return nil }

func (l *stringList) Type() string { return "stringArray" }
