"""What a finished run leaves for people and other programs: masks, a picture, GeoJSON."""
