"""How evidence becomes the rewards and costs that the programmes take."""
