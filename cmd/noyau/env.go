package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// environment gathers the app's environment: the files in order, then the -e
// values; later ones win. An item is NAME=value, or NAME alone, which takes the
// value of here (lookup) if there is one.
func environment(files, items []string, lookup func(string) (string, bool)) ([]string, error) {
	var all []string
	for _, name := range files {
		lines, err := envFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, lines...)
	}
	all = append(all, items...)
	at := map[string]int{}
	var env []string
	for _, item := range all {
		name, value, ok := strings.Cut(item, "=")
		if name == "" || strings.ContainsRune(item, 0) {
			return nil, fmt.Errorf("environment variable %q: want NAME=value or NAME", item)
		}
		if !ok {
			if value, ok = lookup(name); !ok {
				continue
			}
		}
		if i, ok := at[name]; ok {
			env[i] = name + "=" + value
			continue
		}
		at[name] = len(env)
		env = append(env, name+"="+value)
	}
	return env, nil
}

// envFile reads a file of variables, one a line as docker has it: no quotes, no
// expansion; empty lines and those that begin with # do not count.
func envFile(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("env-file: %v", err)
	}
	defer f.Close()
	var lines []string
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimPrefix(sc.Text(), "\ufeff")
		line = strings.TrimLeft(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if key, _, _ := strings.Cut(line, "="); key == "" || strings.ContainsAny(key, " \t") {
			return nil, fmt.Errorf("env-file %s, line %d: %q is not a variable name", name, n, key)
		}
		lines = append(lines, line)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("env-file %s: %w", name, err)
	}
	return lines, nil
}

// defaultEnv adds what every app may expect to find, unless env has it.
func defaultEnv(env []string, hostname string) []string {
	var out []string
	for _, d := range []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + hostname,
		"HOME=/root",
	} {
		if name, _, _ := strings.Cut(d, "="); !hasEnv(env, name) {
			out = append(out, d)
		}
	}
	return append(out, env...)
}

// addEnv sets a variable unless env has it.
func addEnv(env []string, name, value string) []string {
	if hasEnv(env, name) {
		return env
	}
	return append(env, name+"="+value)
}

func hasEnv(env []string, name string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, name+"=") {
			return true
		}
	}
	return false
}
