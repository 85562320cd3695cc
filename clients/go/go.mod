module ringbroker

go 1.23
