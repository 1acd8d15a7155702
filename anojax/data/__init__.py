"""Reading images, textures and masks; procedural samples; writing runs."""
