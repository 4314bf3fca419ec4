module tryitnow.dev/lab/machines/guest

go 1.26.0
