"""Floor 2: tasks, exact answers, the zoo of mechanisms, the RASP compiler, training and the command line."""
