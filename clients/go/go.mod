module ringbroker

go 1.27
