module noyau.dev

go 1.26.0
