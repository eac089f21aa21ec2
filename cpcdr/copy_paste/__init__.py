"""Copy-paste of coherent depth regions between frames, implemented as a z-buffer compositor."""
