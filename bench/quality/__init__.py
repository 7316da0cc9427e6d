"""`python -m bench quality`: how well labelled prompts are routed, with every figure, not only the flattering one."""
