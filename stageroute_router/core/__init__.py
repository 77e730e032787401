"""The mathematics: estimate, plan the stage, route, observe. Pure, with no I/O and no clock."""
