// The stand-in of ingress-nginx: upstream's flags, ports, webhook and way to end, with a small proxy in nginx's place.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	account    = "/var/run/secrets/kubernetes.io/serviceaccount"
	networking = "/apis/networking.k8s.io/v1"
	prefix     = "nginx.ingress.kubernetes.io/"
	program    = "nginx-ingress-controller"
	lookEvery  = 500 * time.Millisecond
	nowhere    = "upstream-default-backend"
	notFound   = "127.0.0.1:8181" // nginx asks a server of its own for what no rule takes
)

// The flags that the manifest and labctl give. As in upstream's program, an unknown one ends it.
var (
	flags             = flag.NewFlagSet(program, flag.ContinueOnError)
	publishService    = flags.String("publish-service", "", "")
	electionID        = flags.String("election-id", "ingress-controller-leader", "")
	electionTTL       = flags.Duration("election-ttl", 30*time.Second, "")
	controllerClass   = flags.String("controller-class", "k8s.io/ingress-nginx", "")
	ingressClass      = flags.String("ingress-class", "nginx", "")
	configMap         = flags.String("configmap", "", "")
	webhook           = flags.String("validating-webhook", "", "")
	webhookCert       = flags.String("validating-webhook-certificate", "", "")
	webhookKey        = flags.String("validating-webhook-key", "", "")
	statusInterval    = flags.Int("status-update-interval", 60, "")
	shutdownGrace     = flags.Int("shutdown-grace-period", 0, "")
	postShutdownGrace = flags.Int("post-shutdown-grace-period", 10, "")
)

type metadata struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace"`
	UID             string            `json:"uid"`
	ResourceVersion string            `json:"resourceVersion"`
	Annotations     map[string]string `json:"annotations"`
	Created         string            `json:"creationTimestamp"`
	Labels          map[string]string `json:"labels"`
}

type port struct {
	Name   string `json:"name"`
	Number int    `json:"number"`
}

type path struct {
	Path     string `json:"path"`
	PathType string `json:"pathType"`
	Backend  struct {
		Service *struct {
			Name string `json:"name"`
			Port port   `json:"port"`
		} `json:"service"`
	} `json:"backend"`
}

type ingress struct {
	Metadata metadata `json:"metadata"`
	Spec     struct {
		Class string `json:"ingressClassName"`
		Rules []struct {
			Host string `json:"host"`
			HTTP struct {
				Paths []path `json:"paths"`
			} `json:"http"`
		} `json:"rules"`
	} `json:"spec"`
}

type slice struct {
	Metadata  metadata `json:"metadata"`
	Endpoints []struct {
		Addresses  []string `json:"addresses"`
		Conditions struct {
			Ready *bool `json:"ready"`
		} `json:"conditions"`
	} `json:"endpoints"`
	Ports []struct {
		Name string `json:"name"`
		Port int    `json:"port"`
	} `json:"ports"`
}

// settings are those of the ConfigMap that this stand-in carries out.
type settings struct {
	Data struct {
		WorkerShutdownTimeout string `json:"worker-shutdown-timeout"`
		LogDefaultBackend     string `json:"enable-access-log-for-default-backend"`
	} `json:"data"`
}

type list[T any] struct {
	Items []T `json:"items"`
}

// client asks the API server as the pod's service account.
type client struct {
	base string
	http *http.Client
}

func inCluster() (*client, error) {
	authority, err := os.ReadFile(account + "/ca.crt")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	return &client{"https://" + host, &http.Client{Transport: transport, Timeout: 5 * time.Second}}, nil
}

var errNotFound = errors.New("not found")

func (c *client) ask(method, where string, body, answer any) error {
	token, err := os.ReadFile(account + "/token")
	if err != nil {
		return err
	}
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequest(method, c.base+where, content)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotFound {
		return errNotFound
	}
	if response.StatusCode >= 300 {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		return fmt.Errorf("%s %s: %s: %s", method, where, response.Status, said)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// controller is what the API server said last, and what is made of it.
type controller struct {
	api       *client
	ending    atomic.Bool
	synced    atomic.Bool
	turn      atomic.Uint64
	mutex     sync.RWMutex
	ingresses []ingress
	endpoints map[string][]string
	settings  settings
}

// look reads the Ingresses of the class, and the ready endpoints of each Service's ports.
func (c *controller) look() error {
	var ingresses list[ingress]
	var slices list[slice]
	if err := c.api.ask(http.MethodGet, networking+"/ingresses", nil, &ingresses); err != nil {
		return err
	}
	if err := c.api.ask(http.MethodGet, "/apis/discovery.k8s.io/v1/endpointslices", nil, &slices); err != nil {
		return err
	}
	var configured settings
	namespace, name, _ := strings.Cut(*configMap, "/")
	if err := c.api.ask(http.MethodGet, "/api/v1/namespaces/"+namespace+"/configmaps/"+name, nil, &configured); err != nil {
		return err
	}
	var ours []ingress
	for _, each := range ingresses.Items {
		if each.Spec.Class == *ingressClass && each.snippet() == "" {
			ours = append(ours, each)
		}
	}
	sort.SliceStable(ours, func(i, j int) bool { return ours[i].Metadata.Created < ours[j].Metadata.Created })
	endpoints := map[string][]string{}
	for _, each := range slices.Items {
		service := each.Metadata.Namespace + "/" + each.Metadata.Labels["kubernetes.io/service-name"]
		for _, port := range each.Ports {
			for _, endpoint := range each.Endpoints {
				if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready {
					key := service + "/" + port.Name
					target := net.JoinHostPort(endpoint.Addresses[0], fmt.Sprint(port.Port))
					endpoints[key] = append(endpoints[key], target)
				}
			}
		}
	}
	c.mutex.Lock()
	c.ingresses, c.endpoints, c.settings = ours, endpoints, configured
	c.mutex.Unlock()
	c.synced.Store(true)
	return nil
}

func matches(rule path, requested string) bool {
	if rule.PathType == "Exact" {
		return requested == rule.Path
	}
	prefix := strings.TrimSuffix(rule.Path, "/")
	return requested == prefix || strings.HasPrefix(requested, prefix+"/")
}

// route returns nginx's name for the Service that a request is for, and its endpoints.
func (c *controller) route(host, requested string) (string, []string) {
	c.mutex.RLock()
	defer c.mutex.RUnlock()
	for _, each := range c.ingresses {
		for _, rule := range each.Spec.Rules {
			if rule.Host != "" && !strings.EqualFold(rule.Host, host) {
				continue
			}
			for _, path := range rule.HTTP.Paths {
				if service := path.Backend.Service; service != nil && matches(path, requested) {
					name := service.Port.Name
					key := each.Metadata.Namespace + "/" + service.Name + "/" + name
					return each.Metadata.Namespace + "-" + service.Name + "-" + name, c.endpoints[key]
				}
			}
		}
	}
	return nowhere, nil
}

// ServeHTTP asks one endpoint after the other, and logs the request as nginx does.
func (c *controller) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	host, _, err := net.SplitHostPort(request.Host)
	if err != nil {
		host = request.Host
	}
	upstream, targets := c.route(host, request.URL.Path)
	status, asked, length := http.StatusServiceUnavailable, "-", 0
	if upstream == nowhere {
		status, asked = http.StatusNotFound, notFound
	}
	isAnswered, tried := false, ""
	first := int(c.turn.Add(1))
	for number := range targets {
		target := targets[(first+number)%len(targets)]
		asked = tried + target
		tried = asked + ", "
		answer, err := forward(request, target)
		if err != nil {
			status = http.StatusBadGateway
			continue
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		for name, values := range answer.Header {
			writer.Header()[name] = values
		}
		status, length, isAnswered = answer.StatusCode, len(body), true
		writer.WriteHeader(status)
		_, _ = writer.Write(body)
		break
	}
	if !isAnswered {
		writer.WriteHeader(status)
		fmt.Fprintf(writer, "%d %s\n", status, http.StatusText(status))
	}
	if upstream == nowhere && c.configured().Data.LogDefaultBackend != "true" {
		return
	}
	client, _, _ := net.SplitHostPort(request.RemoteAddr)
	fmt.Printf("%s - - [%s] \"%s %s HTTP/1.1\" %d %d \"-\" \"%s\" 100 0.001 [%s] [] %s %d 0.001 %d 0\n",
		client, time.Now().Format("02/Jan/2006:15:04:05 -0700"), request.Method, request.URL.RequestURI(), status, length,
		request.UserAgent(), upstream, asked, length, status)
}

var backends = &http.Client{
	Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: time.Second}).DialContext, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func forward(request *http.Request, target string) (*http.Response, error) {
	onward := request.Clone(request.Context())
	onward.URL = &url.URL{Scheme: "http", Host: target, Path: request.URL.Path, RawQuery: request.URL.RawQuery}
	onward.RequestURI = ""
	return backends.Do(onward)
}

// review answers the admission webhook as upstream does: no snippets, and no host and path of another Ingress.
func (c *controller) review(writer http.ResponseWriter, request *http.Request) {
	var asked struct {
		Request struct {
			UID    string  `json:"uid"`
			Object ingress `json:"object"`
		} `json:"request"`
	}
	if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	response := map[string]any{"uid": asked.Request.UID, "allowed": true}
	if reason := c.objection(asked.Request.Object); reason != "" {
		response["allowed"] = false
		response["status"] = map[string]any{"status": "Failure", "message": reason, "reason": "BadRequest", "code": 400}
	}
	answer := map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
	_ = json.NewEncoder(writer).Encode(answer)
}

func (c *controller) objection(wanted ingress) string {
	for key := range wanted.Metadata.Annotations {
		if strings.HasSuffix(key, "-snippet") { // of any prefix
			return key + " annotation cannot be used. Snippet directives are disabled by the Ingress administrator"
		}
	}
	c.mutex.RLock()
	defer c.mutex.RUnlock()
	for _, other := range c.ingresses {
		if other.Metadata.Namespace == wanted.Metadata.Namespace && other.Metadata.Name == wanted.Metadata.Name {
			continue
		}
		for _, rule := range wanted.Spec.Rules {
			for _, path := range rule.HTTP.Paths {
				if other.has(rule.Host, path.Path) {
					return fmt.Sprintf("host %q and path %q is already defined in ingress %s/%s",
						rule.Host, path.Path, other.Metadata.Namespace, other.Metadata.Name)
				}
			}
		}
	}
	return ""
}

// snippet is an annotation that keeps an Ingress from being served that came past the webhook.
func (i ingress) snippet() string {
	for key := range i.Metadata.Annotations {
		if strings.HasPrefix(key, prefix) && strings.HasSuffix(key, "-snippet") {
			return key
		}
	}
	return ""
}

func (i ingress) has(host, requested string) bool {
	for _, rule := range i.Spec.Rules {
		for _, path := range rule.HTTP.Paths {
			if rule.Host == host && path.Path == requested {
				return true
			}
		}
	}
	return false
}

// lead keeps the lease, and writes the Service's address into the Ingresses while this pod holds it.
func (c *controller) lead() {
	leases := "/apis/coordination.k8s.io/v1/namespaces/" + os.Getenv("POD_NAMESPACE") + "/leases"
	written := time.Time{}
	for ; !c.ending.Load(); time.Sleep(*electionTTL / 4) {
		if holds, err := c.hold(leases); err != nil || !holds {
			continue
		}
		if time.Since(written) >= time.Duration(*statusInterval)*time.Second {
			if err := c.publish(); err != nil {
				log.Print(err)
				continue
			}
			written = time.Now()
		}
	}
}

func (c *controller) hold(leases string) (bool, error) {
	lease := map[string]any{}
	err := c.api.ask(http.MethodGet, leases+"/"+*electionID, nil, &lease)
	if err != nil && !errors.Is(err, errNotFound) {
		return false, err
	}
	spec, _ := lease["spec"].(map[string]any)
	me := os.Getenv("POD_NAME")
	if renewed, err := time.Parse(time.RFC3339Nano, fmt.Sprint(spec["renewTime"])); err == nil {
		if spec["holderIdentity"] != me && time.Since(renewed) < *electionTTL {
			return false, nil
		}
	}
	lease["spec"] = map[string]any{
		"holderIdentity":       me,
		"leaseDurationSeconds": int(electionTTL.Seconds()),
		"renewTime":            time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"),
	}
	if errors.Is(err, errNotFound) {
		lease["metadata"] = map[string]any{"name": *electionID}
		return true, c.api.ask(http.MethodPost, leases, lease, nil)
	}
	return true, c.api.ask(http.MethodPut, leases+"/"+*electionID, lease, nil)
}

type balancer struct {
	Ingress []struct {
		IP string `json:"ip"`
	} `json:"ingress,omitempty"`
}

func (c *controller) publish() error {
	namespace, name, _ := strings.Cut(*publishService, "/")
	var service struct {
		Status struct {
			LoadBalancer balancer `json:"loadBalancer"`
		} `json:"status"`
	}
	if err := c.api.ask(http.MethodGet, "/api/v1/namespaces/"+namespace+"/services/"+name, nil, &service); err != nil {
		return err
	}
	return c.write(service.Status.LoadBalancer)
}

// write puts an address, or none, into every Ingress.
func (c *controller) write(address balancer) error {
	c.mutex.RLock()
	ingresses := c.ingresses
	c.mutex.RUnlock()
	for _, each := range ingresses {
		where := networking + "/namespaces/" + each.Metadata.Namespace + "/ingresses/" + each.Metadata.Name
		whole := map[string]any{}
		if err := c.api.ask(http.MethodGet, where, nil, &whole); err != nil {
			return err
		}
		whole["status"] = map[string]any{"loadBalancer": address}
		if err := c.api.ask(http.MethodPut, where+"/status", whole, nil); err != nil {
			return err
		}
	}
	return nil
}

// withdraw empties the status of every Ingress, unless there is another pod of this version.
func (c *controller) withdraw() error {
	pods := "/api/v1/namespaces/" + os.Getenv("POD_NAMESPACE") + "/pods"
	var own, others list[struct {
		Metadata metadata `json:"metadata"`
	}]
	if err := c.api.ask(http.MethodGet, pods+"?fieldSelector=metadata.name%3D"+os.Getenv("POD_NAME"), nil, &own); err != nil {
		return err
	}
	var labels []string
	for _, each := range own.Items {
		for key, value := range each.Metadata.Labels {
			if key != "pod-template-hash" {
				labels = append(labels, key+"="+value)
			}
		}
	}
	selector := url.QueryEscape(strings.Join(labels, ","))
	if err := c.api.ask(http.MethodGet, pods+"?labelSelector="+selector, nil, &others); err != nil {
		return err
	}
	if len(others.Items) > 1 {
		return nil
	}
	return c.write(balancer{})
}

func (c *controller) configured() settings {
	c.mutex.RLock()
	defer c.mutex.RUnlock()
	return c.settings
}

// patience is for how long open connections are waited for.
func (c *controller) patience() time.Duration {
	if seconds, err := time.ParseDuration(c.configured().Data.WorkerShutdownTimeout); err == nil {
		return seconds
	}
	return 240 * time.Second
}

func (c *controller) healthz(writer http.ResponseWriter, _ *http.Request) {
	if c.ending.Load() || !c.synced.Load() {
		http.Error(writer, "not serving", http.StatusInternalServerError)
	}
}

func run(arguments []string) error {
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	api, err := inCluster()
	if err != nil {
		return err
	}
	c := &controller{api: api}
	ended := make(chan error, 3)
	health, hook := http.NewServeMux(), http.NewServeMux()
	health.HandleFunc("/healthz", c.healthz)
	hook.HandleFunc("/networking/v1/ingresses", c.review)
	proxy := &http.Server{Addr: ":80", Handler: c}
	hooks := &http.Server{Addr: *webhook, Handler: hook}
	go func() { ended <- http.ListenAndServe(":10254", health) }()
	go func() { ended <- proxy.ListenAndServe() }()
	go func() { ended <- hooks.ListenAndServeTLS(*webhookCert, *webhookKey) }()
	go func() {
		for ; ; time.Sleep(lookEvery) {
			if err := c.look(); err != nil {
				log.Print(err)
			}
		}
	}()
	go c.lead()
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	select {
	case err := <-ended:
		return err
	case <-told:
	}
	c.ending.Store(true)
	time.Sleep(time.Duration(*shutdownGrace) * time.Second)
	if err := c.withdraw(); err != nil {
		log.Print(err)
	}
	_ = hooks.Close()
	bounded, cancel := context.WithTimeout(context.Background(), c.patience())
	defer cancel()
	_ = proxy.Shutdown(bounded)
	time.Sleep(time.Duration(*postShutdownGrace) * time.Second)
	return nil
}

// waitShutdown tells the controller to end, and waits until it serves no more.
func waitShutdown() error {
	programs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, each := range programs {
		line, err := os.ReadFile(each)
		if err != nil || filepath.Base(strings.Split(string(line), "\x00")[0]) != program {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(each, "/proc/%d/cmdline", &pid); err == nil {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
	for {
		connection, err := net.DialTimeout("tcp", "127.0.0.1:80", time.Second)
		if err != nil {
			return nil
		}
		connection.Close()
		time.Sleep(time.Second)
	}
}

func main() {
	log.SetFlags(log.LstdFlags)
	err := error(nil)
	switch arguments := os.Args[1:]; filepath.Base(os.Args[0]) {
	case "dumb-init": // dumb-init -- PROGRAM ARGUMENTS
		err = syscall.Exec(arguments[1], arguments[1:], os.Environ())
	case "wait-shutdown":
		err = waitShutdown()
	default:
		err = run(arguments)
	}
	if err != nil {
		log.Fatal(err)
	}
}
