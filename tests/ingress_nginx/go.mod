module ingress-nginx-stand-in

go 1.24
