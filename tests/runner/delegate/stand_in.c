/* An external delegate that stands in for libedgetpu.
 *
 * It claims every operator called edgetpu-custom-op, as libedgetpu does, takes the same values of
 * the option "device", and answers with a pattern instead of a network: byte i of every output is
 * the sum of all input bytes, plus "offset" (an option, 0 by default), plus i, modulo 256.
 *
 * DEVICES (1): how many sticks are plugged in. Without the one that is asked for, the delegate is
 *   NULL and no reason is reported: that is what libedgetpu does.
 * REFUSAL: what its kernel reports instead of being prepared. Undefined: it works.
 * CRASH: defined, it dies where a library of another TensorFlow version does.
 * CLAIM: the number of a builtin operator that it claims instead, and computes on the CPU after a
 *   pause of 20 ms: it copies the input. That is a driver that falls back and says nothing.
 */
#define _POSIX_C_SOURCE 199309L
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tflite.h"

#ifndef DEVICES
#define DEVICES 1
#endif

static TfLiteStatus prepare(TfLiteContext* context, TfLiteNode* node) {
  (void)node;
#ifdef CRASH
  abort();
#endif
#ifdef REFUSAL
  context->ReportError(context, REFUSAL);
  return kTfLiteError;
#endif
  (void)context;
  return kTfLiteOk;
}

static TfLiteStatus invoke(TfLiteContext* context, TfLiteNode* node) {
#ifdef CLAIM
  nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
  TfLiteTensor* given = &context->tensors[node->inputs->data[0]];
  TfLiteTensor* made = &context->tensors[node->outputs->data[0]];
  memcpy(made->data, given->data, given->bytes < made->bytes ? given->bytes : made->bytes);
  return kTfLiteOk;
#endif
  unsigned total = *(unsigned*)node->delegate->data;
  for (int k = 0; k < node->inputs->size; ++k) {
    const TfLiteTensor* input = &context->tensors[node->inputs->data[k]];
    for (size_t i = 0; i < input->bytes; ++i) total += ((const uint8_t*)input->data)[i];
  }
  for (int k = 0; k < node->outputs->size; ++k) {
    const TfLiteTensor* output = &context->tensors[node->outputs->data[k]];
    for (size_t i = 0; i < output->bytes; ++i) ((uint8_t*)output->data)[i] = (uint8_t)(total + i);
  }
  return kTfLiteOk;
}

static TfLiteStatus claim(TfLiteContext* context, TfLiteDelegate* delegate) {
  TfLiteIntArray* plan;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk) return kTfLiteError;
  TfLiteIntArray* mine = malloc(sizeof(TfLiteIntArray) + plan->size * sizeof(int));
  mine->size = 0;
  for (int k = 0; k < plan->size; ++k) {
    TfLiteNode* node;
    TfLiteRegistration* operator;
    if (context->GetNodeAndRegistration(context, plan->data[k], &node, &operator) != kTfLiteOk)
      continue;
#ifdef CLAIM
    bool wanted = operator->builtin_code == CLAIM;
#else
    bool wanted = operator->custom_name && strcmp(operator->custom_name, "edgetpu-custom-op") == 0;
#endif
    if (wanted)
      mine->data[mine->size++] = plan->data[k];
  }
  TfLiteRegistration kernel = {
      .prepare = prepare, .invoke = invoke, .custom_name = "EdgeTpuStandIn", .version = 1};
  TfLiteStatus status =
      context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, mine, delegate);
  free(mine);
  return status;
}

/* "", ":0", "usb", "usb:0" where DEVICES sticks are plugged in, and nothing sits on the PCI bus. */
static bool is_here(const char* device) {
  if (strncmp(device, "pci", 3) == 0) return false;
  if (strncmp(device, "usb", 3) == 0) device += 3;
  return (device[0] == ':' ? atoi(device + 1) : 0) < DEVICES;
}

TfLiteDelegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count,
                                              void (*report)(const char*)) {
  const char* device = "";
  unsigned offset = 0;
  for (size_t k = 0; k < count; ++k) {
    if (strcmp(keys[k], "device") == 0) {
      device = values[k];
    } else if (strcmp(keys[k], "offset") == 0) {
      offset = (unsigned)atoi(values[k]);
    } else {
      report("unknown option");
      return NULL;
    }
  }
  if (!is_here(device)) return NULL;
  TfLiteDelegate* delegate = calloc(1, sizeof(TfLiteDelegate));
  delegate->data = malloc(sizeof offset);
  memcpy(delegate->data, &offset, sizeof offset);
  delegate->Prepare = claim;
  /* Claim before the runtime prepares any kernel: it has none for edgetpu-custom-op. */
  delegate->flags = kTfLiteDelegateFlagsAllowDynamicTensors;
  return delegate;
}

void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) {
  if (delegate) free(delegate->data);
  free(delegate);
}
