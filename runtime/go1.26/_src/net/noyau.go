package net

// A program that imports net has the sockets brick.
import _ "internal/noyau/sock"
