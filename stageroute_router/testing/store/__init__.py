"""What a store has to do, as a class of tests to run over your own."""
