module outward
go 1.26
