"""What is missing is computed: models trained, evaluated, data sets measured, by as many processes as there is room for."""
