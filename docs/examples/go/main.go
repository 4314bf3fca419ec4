// Command request-demo starts a demo of a Checkpoint, prints its URL, and deletes it.
//
//	request-demo NAMESPACE CHECKPOINT
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"
)

var demos = schema.GroupVersionResource{
	Group: "tryitnow.dev", Version: "v1alpha1", Resource: "demoinstances",
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: request-demo NAMESPACE CHECKPOINT")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(namespace, checkpoint string) error {
	// KUBECONFIG or, where it is empty, the Pod's own ServiceAccount.
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	api := client.Resource(demos).Namespace(namespace)
	// A ttl, so that it ends by itself should this program not come to its own end.
	demo, err := api.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "tryitnow.dev/v1alpha1",
		"kind":       "DemoInstance",
		"metadata":   map[string]any{"generateName": checkpoint + "-"},
		"spec": map[string]any{
			"checkpointRef": map[string]any{"name": checkpoint},
			"ttl":           "10m",
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	name := demo.GetName()
	defer api.Delete(context.Background(), name, metav1.DeleteOptions{})
	url, err := waitReady(ctx, api, demo)
	if err != nil {
		return err
	}
	fmt.Println(url)
	return nil
}

// waitReady returns the URL once the demo is ready, or says why it never will be.
func waitReady(
	ctx context.Context, api dynamic.ResourceInterface, demo *unstructured.Unstructured,
) (string, error) {
	one := fields.OneTermEqualSelector("metadata.name", demo.GetName()).String()
	list := &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = one
			return api.Watch(ctx, o)
		},
	}
	// Goes on where a connection breaks.
	last, err := watchtools.Until(ctx, demo.GetResourceVersion(), list, ended)
	if err != nil {
		return "", fmt.Errorf("%s is not ready: %w", demo.GetName(), err)
	}
	url, _, err := unstructured.NestedString(
		last.Object.(*unstructured.Unstructured).Object, "status", "url")
	return url, err
}

func ended(event watch.Event) (bool, error) {
	if event.Type == watch.Deleted {
		return false, fmt.Errorf("somebody deleted it")
	}
	demo, ok := event.Object.(*unstructured.Unstructured)
	if !ok {
		return false, fmt.Errorf("the watch ended: %v", event.Object)
	}
	conditions, _, err := unstructured.NestedSlice(demo.Object, "status", "conditions")
	if err != nil {
		return false, err
	}
	for _, each := range conditions {
		condition, ok := each.(map[string]any)
		if !ok {
			continue
		}
		failure := fmt.Errorf("%v: %v", condition["reason"], condition["message"])
		switch {
		case condition["reason"] == "CheckpointNotFound":
			return false, failure
		case condition["type"] == "Ready" && condition["status"] == "True":
			return true, nil
		case condition["type"] == "Stalled" && condition["status"] == "True":
			return false, failure
		}
	}
	return false, nil
}
