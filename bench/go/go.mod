module bench

go 1.27

require ringbroker v0.0.0

replace ringbroker => ../../clients/go
